"""What this device is and what a bundle costs on it: calibration, energy, parity of backends."""
