"""What the packaged configs need of upstream."""

SINCE_160 = {
    "alakazam3_isfilter.gin",
    "alakazam_bnorm_beta3.gin",
    "alakazam_bnorm_beta3_hlgauss.gin",
    "alakazam_bnorm_beta3_hlgauss_vanilla.gin",
    "finetune.gin",
    "grouped_v2_large_isfilter.gin",
}
"""Of what only metamon 1.6.0 and amago 3.3 have."""
