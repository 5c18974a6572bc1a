"""What ``jointsearch init`` makes of five answers: a study file, with comments, that loads."""
