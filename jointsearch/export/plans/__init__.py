"""What a plan can be written as, one file each."""
