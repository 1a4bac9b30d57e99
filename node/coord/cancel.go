package coord

import "github.com/seed-7b27c88a/shoal/p2p/record"

// orderCancel is said at the submitter. The order goes to whoever may lead, until the log has it.
func (m *Machine) orderCancel(why string, enough bool) {
	if m.self.ID != m.g.Submitter || m.job.ended {
		return
	}
	s, _, err := m.self.Sign(m.orderHeader(), orderMsg{Why: why[:min(len(why), maxText)], Enough: enough})
	if err != nil {
		m.note("the order to cancel cannot be signed: %v", err)
		return
	}
	m.me.order = s
	m.sendOrder()
}

// orderHeader names the job alone: the order holds in every generation.
func (m *Machine) orderHeader() record.Header {
	return record.Header{Context: contextOrder, Version: record.Version, Job: m.g.Job, Boot: m.self.Boot}
}

func (m *Machine) sendOrder() {
	if m.me.order == nil || m.job.ended {
		return
	}
	if m.lead != nil {
		m.lead.order = m.me.order
		return
	}
	if m.guide.leader != "" {
		m.emit(Send{To: m.guide.leader, Msg: m.me.order})
	}
}

// takeOrder takes the submitter's order at the leader.
func (m *Machine) takeOrder(o *opened) {
	if m.lead != nil && m.validOrder(o.signed) {
		m.lead.order = o.signed
	}
}

func (m *Machine) validOrder(s *record.Signed) bool {
	o, err := openMessage(m.self.Signer, s)
	if err != nil {
		return false
	}
	_, order := o.body.(*orderMsg)
	return order && o.header.Job == m.g.Job && o.signer == m.g.Submitter
}

// validEnd judges what ends the job: the submitter's order, or, without one, that it went back too often in vain.
func (m *Machine) validEnd(b *CancelEntry) bool {
	if b.Order == nil {
		return m.diverged() && m.hopeless()
	}
	return m.validOrder(b.Order)
}

// endOf is how a job ends by an order: done where the submitter has measured enough, else cancelled. Without one it failed.
func (m *Machine) endOf(order *record.Signed) string {
	if order == nil {
		return "failed"
	}
	if o, err := openMessage(m.self.Signer, order); err == nil {
		if b, ok := o.body.(*orderMsg); ok && b.Enough {
			return "done"
		}
	}
	return "cancelled"
}

func (m *Machine) driveCancel() bool {
	if m.lead.order == nil {
		return false
	}
	o, err := openMessage(m.self.Signer, m.lead.order)
	if err != nil {
		m.lead.order = nil
		return false
	}
	m.propose(contextCancel, m.job.round, 0, &CancelEntry{Order: m.lead.order, Why: o.body.(*orderMsg).Why})
	return true
}
