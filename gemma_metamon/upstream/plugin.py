"""What every packaged config imports first: in a metamon process it brings upstream's names and ours into gin.

In our own process `runs.embedded.register` has put the embedded classes under upstream's gin names before a config is
read, so there is nothing left to do here.
"""

from gemma_metamon.configs.names import is_embedded

if not is_embedded():
    from gemma_metamon.upstream import metamon_process

    metamon_process.register()
