"""What runtimes load, one file each."""
