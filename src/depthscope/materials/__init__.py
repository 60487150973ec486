"""What is read: text windows now; facts, options, needles and tasks where an analysis needs them."""
