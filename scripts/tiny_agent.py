"""An agent of one narrow layer of everything, for `gemma_tiny_multitaskagent.gin`: built and run in no time."""

OVERRIDES = [
    "GemmaTstepEncoder.backbone_config = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1, "
    "'num_attention_heads': 1, 'num_key_value_heads': 1, 'head_dim': 16, 'layer_types': ['full_attention']}",
    "GemmaTstepEncoder.text_emb_dim = 16",
    "GemmaTstepEncoder.summary_tokens = 2",
    "GemmaTstepEncoder.numerical_emb_dim = 16",
    "TformerTrajEncoder.d_model = 16",
    "TformerTrajEncoder.d_ff = 16",
    "TformerTrajEncoder.n_layers = 1",
    "TformerTrajEncoder.n_heads = 2",
    "MetamonMaskedActor.d_hidden = 16",
    "NCriticsTwoHot.d_hidden = 16",
    "NCriticsTwoHot.output_bins = 8",
]
