"""What `doctor` looks at: whether a machine with accelerators does what this project needs, and how fast."""
