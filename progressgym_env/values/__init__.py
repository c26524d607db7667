"""What the environments measure: dimensions, questions and the value embedding."""
