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
	Version               string `yaml:"version" json:"version" cbor:"version"`
	Name                  string `yaml:"name" json:"name,omitempty" cbor:"name"`
	BaseModel             string `yaml:"base_model" json:"base_model" cbor:"base_model"` // directory, local name, or hf:owner/name[@rev]
	Seed                  uint64 `yaml:"seed" json:"seed" cbor:"seed"`
	DType                 string `yaml:"dtype" json:"dtype" cbor:"dtype"`                                                              // fp32 | bf16 | fp16
	GradientCheckpointing bool   `yaml:"gradient_checkpointing" json:"gradient_checkpointing,omitempty" cbor:"gradient_checkpointing"` // blocks keep their inputs alone: less memory, a third more work

	Adapter           string   `yaml:"adapter" json:"adapter" cbor:"adapter"` // none | lora | dora | ia3 | bottleneck | prefix | prompt; default none, or what lora_model_dir holds
	LoraR             int      `yaml:"lora_r" json:"lora_r,omitempty" cbor:"lora_r"`
	LoraAlpha         float64  `yaml:"lora_alpha" json:"lora_alpha,omitempty" cbor:"lora_alpha"`
	LoraDropout       float64  `yaml:"lora_dropout" json:"lora_dropout,omitempty" cbor:"lora_dropout"`
	LoraTargetModules []string `yaml:"lora_target_modules" json:"lora_target_modules,omitempty" cbor:"lora_target_modules"`
	LoraTargetLinear  bool     `yaml:"lora_target_linear" json:"lora_target_linear,omitempty" cbor:"lora_target_linear"`
	LoraRSLora        bool     `yaml:"lora_rslora" json:"lora_rslora,omitempty" cbor:"lora_rslora"`
	LoraModelDir      string   `yaml:"lora_model_dir" json:"lora_model_dir,omitempty" cbor:"lora_model_dir"` // start from this adapter; see Adopt

	LoraModulesToSave  []string   `yaml:"lora_modules_to_save" json:"lora_modules_to_save,omitempty" cbor:"lora_modules_to_save"` // modules trained whole beside the adapter, as embed_tokens, lm_head
	UnfrozenParameters []string   `yaml:"unfrozen_parameters" json:"unfrozen_parameters,omitempty" cbor:"unfrozen_parameters"`    // regular expressions of the weights that learn without an adapter; default all
	IA3                IA3        `yaml:"ia3" json:"ia3,omitempty" cbor:"ia3"`                                                    // of adapter: ia3
	Bottleneck         Bottleneck `yaml:"bottleneck" json:"bottleneck,omitempty" cbor:"bottleneck"`                               // of adapter: bottleneck
	Prefix             Prefix     `yaml:"prefix" json:"prefix,omitempty" cbor:"prefix"`                                           // of adapter: prefix
	Prompt             Prompt     `yaml:"prompt" json:"prompt,omitempty" cbor:"prompt"`                                           // of adapter: prompt
	Surgery            Surgery    `yaml:"surgery" json:"surgery,omitempty" cbor:"surgery"`                                        // changes to the base model before training

	Datasets      []Dataset `yaml:"datasets" json:"datasets" cbor:"datasets"`
	ValSetSize    float64   `yaml:"val_set_size" json:"val_set_size,omitempty" cbor:"val_set_size"` // < 1: fraction; ≥ 1: rows
	SequenceLen   int       `yaml:"sequence_len" json:"sequence_len,omitempty" cbor:"sequence_len"` // 0: longest row up to the model's limit
	Shuffle       *bool     `yaml:"shuffle" json:"shuffle,omitempty" cbor:"shuffle"`
	SkipBadRows   bool      `yaml:"skip_bad_rows" json:"skip_bad_rows,omitempty" cbor:"skip_bad_rows"`
	TrainOnInputs bool      `yaml:"train_on_inputs" json:"train_on_inputs,omitempty" cbor:"train_on_inputs"`
	SamplePacking bool      `yaml:"sample_packing" json:"sample_packing,omitempty" cbor:"sample_packing"` // several rows in one position, which do not see each other
	ChatTemplate  string    `yaml:"chat_template" json:"chat_template,omitempty" cbor:"chat_template"`    // tokenizer_default, or a built-in name; default the tokenizer's own
	NEFTuneAlpha  float64   `yaml:"neftune_alpha" json:"neftune_alpha,omitempty" cbor:"neftune_alpha"`    // noise on the embedding in training (Jain et al. 2023); 0: none

	MicroBatchSize            int     `yaml:"micro_batch_size" json:"micro_batch_size,omitempty" cbor:"micro_batch_size"`
	GlobalBatchSize           int     `yaml:"global_batch_size" json:"global_batch_size,omitempty" cbor:"global_batch_size"`
	GradientAccumulationSteps int     `yaml:"gradient_accumulation_steps" json:"gradient_accumulation_steps,omitempty" cbor:"gradient_accumulation_steps"` // instead of global_batch_size: that many micro-batches
	MaxSteps                  int     `yaml:"max_steps" json:"max_steps,omitempty" cbor:"max_steps"`
	NumEpochs                 float64 `yaml:"num_epochs" json:"num_epochs,omitempty" cbor:"num_epochs"`

	Optimizer   Optimizer `yaml:"optimizer" json:"optimizer" cbor:"optimizer"`
	LRScheduler Scheduler `yaml:"lr_scheduler" json:"lr_scheduler" cbor:"lr_scheduler"`
	MaxGradNorm *float64  `yaml:"max_grad_norm" json:"max_grad_norm,omitempty" cbor:"max_grad_norm"` // default 1; 0: none

	Swarm      Swarm      `yaml:"swarm" json:"swarm" cbor:"swarm"`
	Parallel   Parallel   `yaml:"parallel" json:"parallel" cbor:"parallel,omitzero"`
	Wire       Wire       `yaml:"wire" json:"wire" cbor:"wire"`
	Checkpoint Checkpoint `yaml:"checkpoint" json:"checkpoint" cbor:"checkpoint"`
	Output     Output     `yaml:"output" json:"output,omitempty" cbor:"output"`
	Report     Report     `yaml:"report" json:"report,omitempty" cbor:"report"`
	Eval       Eval       `yaml:"eval" json:"eval" cbor:"eval"`
}

// Dataset is one source of rows. Several are read one after the other.
type Dataset struct {
	Path  string `yaml:"path" json:"path" cbor:"path"`                        // file, stored name, or hf:owner/name[@rev]
	Type  string `yaml:"type" json:"type,omitempty" cbor:"type"`              // one of Types; empty: detected by keys
	Split string `yaml:"split" json:"split,omitempty" cbor:"split,omitempty"` // of hf: paths; default train
	Name  string `yaml:"name" json:"name,omitempty" cbor:"name,omitempty"`    // of hf: paths, the part of a data set that has several
}

// Optimizer is the update rule. LR is required; the other keys belong to some optimizers and have defaults of their own
// there: betas [0.9, 0.999] (lion [0.9, 0.99], sophia [0.965, 0.99]), eps 1e-8 (sophia 1e-15, adafactor 1e-30).
type Optimizer struct {
	Name         string    `yaml:"name" json:"name" cbor:"name"` // adamw | adamw8bit | lion | sophia | sgd | adafactor
	LR           float64   `yaml:"lr" json:"lr" cbor:"lr"`
	Betas        []float64 `yaml:"betas" json:"betas" cbor:"betas"`
	Eps          float64   `yaml:"eps" json:"eps,omitempty" cbor:"eps"`
	WeightDecay  float64   `yaml:"weight_decay" json:"weight_decay,omitempty" cbor:"weight_decay"`
	NoDecay      *[]string `yaml:"no_decay" json:"no_decay,omitempty" cbor:"no_decay"`                // default [norm, bias]; []: decay everything
	Momentum     float64   `yaml:"momentum" json:"momentum,omitempty" cbor:"momentum"`                // sgd; default 0: none
	Nesterov     bool      `yaml:"nesterov" json:"nesterov,omitempty" cbor:"nesterov"`                // sgd
	Rho          float64   `yaml:"rho" json:"rho,omitempty" cbor:"rho"`                               // sophia; default 0.04
	HessianEvery int       `yaml:"hessian_every" json:"hessian_every,omitempty" cbor:"hessian_every"` // sophia: optimizer steps between estimates of the curvature; default 10
}

// Scheduler is the learning rate over steps t = 1…T with w warm-up steps and floor ratio m:
// t/w while t ≤ w; then constant 1, linear m+(1-m)(1-(t-1-w)/(T-w)), cosine m+(1-m)(1+cos(π(t-w)/(T-w)))/2; wsd is
// constant and, in its last D steps, linear: m+(1-m)(1-(t-1-(T-D))/D). Ratios are of T, rounded up to whole steps.
type Scheduler struct {
	Name        string  `yaml:"name" json:"name" cbor:"name"` // constant | linear | cosine | wsd
	WarmupSteps int     `yaml:"warmup_steps" json:"warmup_steps,omitempty" cbor:"warmup_steps"`
	WarmupRatio float64 `yaml:"warmup_ratio" json:"warmup_ratio,omitempty" cbor:"warmup_ratio"` // instead of warmup_steps: of all steps
	DecayRatio  float64 `yaml:"decay_ratio" json:"decay_ratio,omitempty" cbor:"decay_ratio"`    // wsd: the last part of all steps, default 0.1
	MinLRRatio  float64 `yaml:"min_lr_ratio" json:"min_lr_ratio,omitempty" cbor:"min_lr_ratio"`
}

// Swarm bounds who takes part.
type Swarm struct {
	MinPeers int `yaml:"min_peers" json:"min_peers,omitempty" cbor:"min_peers"` // needed for plan 0; default 1
	MaxPeers int `yaml:"max_peers" json:"max_peers,omitempty" cbor:"max_peers"` // 0: no limit
}

// Wire says in which form numbers travel between members.
type Wire struct {
	// Gradients is fp32 (nothing is lost), bf16 (half the bytes) or int8 (blocks of 128 with a common scale: about a
	// quarter). What the last two round away of the mean is added to the next step's. Default fp32.
	Gradients string `yaml:"gradients" json:"gradients,omitempty" cbor:"gradients"`
	// Activations is the form in which stages hand them on: bf16 (half the bytes; default where there are stages), int8
	// (a quarter) or fp32.
	Activations string `yaml:"activations" json:"activations,omitempty" cbor:"activations,omitempty"`
}

// Parallel says how the work is spread over members.
type Parallel struct {
	// Sync is allreduce (default: each step is agreed on) or diloco: in a round members take about inner_steps on their own,
	// each on global_batch_size rows of its own, and then agree on the mean of what they changed (Douillard et al. 2023,
	// arXiv:2311.08105), which suits slow lines. A diloco job learns from as much data as an allreduce job of the same
	// max_steps: with n members each takes about an n-th of these steps. Schedules count the steps of all members; what
	// else counts steps (checkpoint, eval) counts rounds.
	Sync          string   `yaml:"sync" json:"sync,omitempty" cbor:"sync,omitempty"`
	InnerSteps    int      `yaml:"inner_steps" json:"inner_steps,omitempty" cbor:"inner_steps,omitempty"`          // diloco: default 50
	OuterLR       *float64 `yaml:"outer_lr" json:"outer_lr,omitempty" cbor:"outer_lr,omitempty"`                   // diloco: default 0.7
	OuterMomentum *float64 `yaml:"outer_momentum" json:"outer_momentum,omitempty" cbor:"outer_momentum,omitempty"` // diloco, Nesterov: default 0.9

	// Zero is what is cut among members (Rajbhandari et al. 2020, arXiv:1910.02054): 0 nothing, 1 the optimizer's state,
	// 2 the reduced gradient too, 3 the weights too (1 is 2 here). auto: 0 while what is trained is below 64 MB, else 2.
	// Default 0.
	Zero string `yaml:"zero" json:"zero,omitempty" cbor:"zero,omitempty"`
	// MirrorRounds is how often, in rounds, an owner's optimizer state goes to its successors, who go on with it when the
	// owner is lost. 0: every 10 rounds or 60 seconds, whichever is later. 1: before the weights of each round are sent, so
	// that nothing is lost; the default in a pipeline of an adapter.
	MirrorRounds int `yaml:"mirror_rounds" json:"mirror_rounds,omitempty" cbor:"mirror_rounds,omitempty"`

	// Chunks is into how many parts, at least, what is trained is cut for its owners, where it is large enough; so that few
	// members own the same amount, within a sixteenth. 0: parts of 2^18 elements. With zero: 1 and more; a job that is
	// submitted without the key gets 64.
	Chunks int `yaml:"chunks" json:"chunks,omitempty" cbor:"chunks,omitempty"`

	Pipeline string `yaml:"pipeline" json:"pipeline,omitempty" cbor:"pipeline,omitempty"` // stages: a number or auto, as many as the members' memory asks for; default 1
	Tensor   int    `yaml:"tensor" json:"tensor,omitempty" cbor:"tensor,omitempty"`       // members or devices that share each product; default 1
	Offload  string `yaml:"offload" json:"offload,omitempty" cbor:"offload,omitempty"`    // none | cpu | disk: where frozen weights lie that the device does not use at the moment; with an adapter
}

// Checkpoint says how often state is settled; the last commit always is.
type Checkpoint struct {
	EverySteps int `yaml:"every_steps" json:"every_steps,omitempty" cbor:"every_steps"` // default 10
}

// IA3 learns a factor for each output of keys and values and each input of the feed-forward layer's last product
// (Liu et al. 2022, arXiv:2205.05638). Empty lists mean the family's defaults.
type IA3 struct {
	TargetModules      []string `yaml:"target_modules" json:"target_modules,omitempty" cbor:"target_modules"`
	FeedForwardModules []string `yaml:"feedforward_modules" json:"feedforward_modules,omitempty" cbor:"feedforward_modules"`
}

// Bottleneck is h + up(act(down(h))) (Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247).
type Bottleneck struct {
	Reduction float64  `yaml:"reduction" json:"reduction,omitempty" cbor:"reduction"` // hidden size / bottleneck; default 16
	Sites     []string `yaml:"sites" json:"sites,omitempty" cbor:"sites"`             // attn, mlp; default [mlp]
	Act       string   `yaml:"act" json:"act,omitempty" cbor:"act"`                   // relu | silu | gelu; default relu
}

// Prefix learns keys and values before each layer's own (Li & Liang 2021, arXiv:2101.00190).
type Prefix struct {
	Tokens     int  `yaml:"tokens" json:"tokens,omitempty" cbor:"tokens"`             // default 20
	Projection bool `yaml:"projection" json:"projection,omitempty" cbor:"projection"` // learn them through a small network, folded when saved
	Hidden     int  `yaml:"hidden" json:"hidden,omitempty" cbor:"hidden"`             // width of that network; default the model's
}

// Prompt learns embeddings before each text (Lester et al. 2021, arXiv:2104.08691).
type Prompt struct {
	Tokens   int    `yaml:"tokens" json:"tokens,omitempty" cbor:"tokens"` // default 16
	InitText string `yaml:"init_text" json:"init_text,omitempty" cbor:"init_text"`
}

// Surgery changes the base model before it is trained.
type Surgery struct {
	KVHeads int `yaml:"kv_heads" json:"kv_heads,omitempty" cbor:"kv_heads"` // pool keys and values to that many heads (Ainslie et al. 2023)
}

// Output says which files are written when the job is done.
type Output struct {
	As []string `yaml:"as" json:"as,omitempty" cbor:"as"` // lora | merged | full | gguf | gguf:f16 | gguf:q8_0
}

// Report says where metrics go besides metrics.jsonl.
type Report struct {
	TensorBoard bool `yaml:"tensorboard" json:"tensorboard,omitempty" cbor:"tensorboard"`
}

// Eval says what is measured while the job runs, and what follows from it.
type Eval struct {
	EverySteps int      `yaml:"every_steps" json:"every_steps,omitempty" cbor:"every_steps"` // 0: at the end
	Tasks      []Task   `yaml:"tasks" json:"tasks,omitempty" cbor:"tasks"`
	BaseText   string   `yaml:"base_text" json:"base_text,omitempty" cbor:"base_text"` // text whose loss shows what is forgotten
	Samples    []string `yaml:"samples" json:"samples,omitempty" cbor:"samples"`       // prompts to continue
	Patience   int      `yaml:"patience" json:"patience,omitempty" cbor:"patience"`    // stop after that many measurements without a better one; 0: never
	KeepBest   bool     `yaml:"keep_best" json:"keep_best,omitempty" cbor:"keep_best"` // the result is the best measured checkpoint, not the last
}

// Task is a file of questions with known answers.
type Task struct {
	Path    string `yaml:"path" json:"path" cbor:"path"`
	FewShot int    `yaml:"fewshot" json:"fewshot,omitempty" cbor:"fewshot"` // solved examples before each question
}
