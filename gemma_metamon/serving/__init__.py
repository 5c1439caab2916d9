"""An agent behind HTTP: what is asked, how it is answered, in which bounds, and a look at a service from outside."""
