"""The kinds of task that are built in, one file each; a file's name is the kind's."""
