"""Side by side with peers: the same network, data and machine, one command each."""
