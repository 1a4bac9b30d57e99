// Package job is the fine-tune job as a person writes it: Spec is pure data, read strictly from YAML or JSON
// (Parse refuses unknown keys and names the nearest known one), completed and checked by Validate, and turned into
// canonical bytes (deterministic CBOR) that are signed and content-addressed. The keys are axolotl's wherever
// axolotl has one. Package job imports nothing but the formats it reads.
package job

// Version is the only spec version there is.
const Version = "shoal/v1"

// Spec is a job. The zero value of an optional key means its default; Validate writes the default in, so that
// canonical bytes are complete.
type Spec struct {
	Version   string `yaml:"version" json:"version" cbor:"version"`
	Name      string `yaml:"name" json:"name,omitempty" cbor:"name"`
	BaseModel string `yaml:"base_model" json:"base_model" cbor:"base_model"` // directory, local name, or hf:owner/name[@rev]
	Seed      uint64 `yaml:"seed" json:"seed" cbor:"seed"`
	DType     string `yaml:"dtype" json:"dtype" cbor:"dtype"` // fp32

	Adapter           string   `yaml:"adapter" json:"adapter" cbor:"adapter"` // lora | none; default none, or lora if lora_model_dir is set
	LoraR             int      `yaml:"lora_r" json:"lora_r,omitempty" cbor:"lora_r"`
	LoraAlpha         float64  `yaml:"lora_alpha" json:"lora_alpha,omitempty" cbor:"lora_alpha"`
	LoraDropout       float64  `yaml:"lora_dropout" json:"lora_dropout,omitempty" cbor:"lora_dropout"`
	LoraTargetModules []string `yaml:"lora_target_modules" json:"lora_target_modules,omitempty" cbor:"lora_target_modules"`
	LoraTargetLinear  bool     `yaml:"lora_target_linear" json:"lora_target_linear,omitempty" cbor:"lora_target_linear"`
	LoraRSLora        bool     `yaml:"lora_rslora" json:"lora_rslora,omitempty" cbor:"lora_rslora"`
	LoraModelDir      string   `yaml:"lora_model_dir" json:"lora_model_dir,omitempty" cbor:"lora_model_dir"` // start from this adapter; see Adopt

	Datasets      []Dataset `yaml:"datasets" json:"datasets" cbor:"datasets"`
	ValSetSize    float64   `yaml:"val_set_size" json:"val_set_size,omitempty" cbor:"val_set_size"` // < 1: fraction; ≥ 1: rows
	SequenceLen   int       `yaml:"sequence_len" json:"sequence_len,omitempty" cbor:"sequence_len"` // 0: longest row up to the model's limit
	Shuffle       *bool     `yaml:"shuffle" json:"shuffle,omitempty" cbor:"shuffle"`
	SkipBadRows   bool      `yaml:"skip_bad_rows" json:"skip_bad_rows,omitempty" cbor:"skip_bad_rows"`
	TrainOnInputs bool      `yaml:"train_on_inputs" json:"train_on_inputs,omitempty" cbor:"train_on_inputs"`

	MicroBatchSize  int     `yaml:"micro_batch_size" json:"micro_batch_size,omitempty" cbor:"micro_batch_size"`
	GlobalBatchSize int     `yaml:"global_batch_size" json:"global_batch_size,omitempty" cbor:"global_batch_size"`
	MaxSteps        int     `yaml:"max_steps" json:"max_steps,omitempty" cbor:"max_steps"`
	NumEpochs       float64 `yaml:"num_epochs" json:"num_epochs,omitempty" cbor:"num_epochs"`

	Optimizer   Optimizer `yaml:"optimizer" json:"optimizer" cbor:"optimizer"`
	LRScheduler Scheduler `yaml:"lr_scheduler" json:"lr_scheduler" cbor:"lr_scheduler"`
	MaxGradNorm *float64  `yaml:"max_grad_norm" json:"max_grad_norm,omitempty" cbor:"max_grad_norm"` // default 1; 0: none

	Swarm      Swarm      `yaml:"swarm" json:"swarm" cbor:"swarm"`
	Checkpoint Checkpoint `yaml:"checkpoint" json:"checkpoint" cbor:"checkpoint"`
	Eval       Eval       `yaml:"eval" json:"eval" cbor:"eval"`
}

// Dataset is one source of rows.
type Dataset struct {
	Path string `yaml:"path" json:"path" cbor:"path"`
	Type string `yaml:"type" json:"type,omitempty" cbor:"type"` // messages | alpaca | completion | text | tokens; empty: detected by keys
}

// Optimizer is the update rule. Betas default to [0.9, 0.999], Eps to 1e-8; LR is required.
type Optimizer struct {
	Name        string    `yaml:"name" json:"name" cbor:"name"` // adamw
	LR          float64   `yaml:"lr" json:"lr" cbor:"lr"`
	Betas       []float64 `yaml:"betas" json:"betas" cbor:"betas"`
	Eps         float64   `yaml:"eps" json:"eps,omitempty" cbor:"eps"`
	WeightDecay float64   `yaml:"weight_decay" json:"weight_decay,omitempty" cbor:"weight_decay"`
	NoDecay     *[]string `yaml:"no_decay" json:"no_decay,omitempty" cbor:"no_decay"` // default [norm, bias]; []: decay everything
}

// Scheduler is the learning rate over steps t = 1…T with w warm-up steps and floor ratio m:
// t/w while t ≤ w; then constant 1, linear m+(1-m)(1-(t-1-w)/(T-w)), cosine m+(1-m)(1+cos(π(t-w)/(T-w)))/2.
type Scheduler struct {
	Name        string  `yaml:"name" json:"name" cbor:"name"` // constant | linear | cosine
	WarmupSteps int     `yaml:"warmup_steps" json:"warmup_steps,omitempty" cbor:"warmup_steps"`
	MinLRRatio  float64 `yaml:"min_lr_ratio" json:"min_lr_ratio,omitempty" cbor:"min_lr_ratio"`
}

// Swarm bounds who takes part.
type Swarm struct {
	MinPeers int `yaml:"min_peers" json:"min_peers,omitempty" cbor:"min_peers"` // needed for plan 0; default 1
	MaxPeers int `yaml:"max_peers" json:"max_peers,omitempty" cbor:"max_peers"` // 0: no limit
}

// Checkpoint says how often state is settled; the last commit always is.
type Checkpoint struct {
	EverySteps int `yaml:"every_steps" json:"every_steps,omitempty" cbor:"every_steps"` // default 10
}

// Eval says how often held-out loss is measured; 0: at the end.
type Eval struct {
	EverySteps int `yaml:"every_steps" json:"every_steps,omitempty" cbor:"every_steps"`
}
