"""What a run would cost elsewhere: counted work, a model of the device and of the network, and one update measured."""
