"""HopAttn beside spiking neurons: the circuits that compute it, a file each."""
