"""What is measured against peers and physical limits, one command each."""
