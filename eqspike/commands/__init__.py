"""One file a command: its flags, and ``main``, which takes the arguments after its name."""
