"""gin: the configs as files, the names that they bind, and the types of what is bound."""
