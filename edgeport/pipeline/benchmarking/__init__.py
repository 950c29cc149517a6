"""Times artifacts on a device: experiments, screening, single artifacts, and the device's own peak."""
