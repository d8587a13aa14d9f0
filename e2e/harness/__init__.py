"""What the suite stands on: the server as a process, clients, packages, rigs, and the checks of every answer."""
