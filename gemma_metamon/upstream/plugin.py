"""What every packaged config imports first.

In our own process `configs.register` has put the embedded classes under upstream's gin names before a config is read,
so there is nothing left to do here.
"""

from gemma_metamon import configs
from gemma_metamon.errors import ConfigError

if not configs.is_embedded():
    raise ConfigError(
        "this version of gemma_metamon has no plugin for a metamon process yet; "
        "train with `gemma-metamon train --model_gin_config ...`, which reads the same configs"
    )
