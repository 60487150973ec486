"""The parts of the decision report: task sheet, flags, verdicts, sentences, risks and the steps that measure."""
