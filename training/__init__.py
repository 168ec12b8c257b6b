"""How the network gets good: data, losses, loops."""
