"""Bad inputs, made by rule from what is good and written by hand."""
