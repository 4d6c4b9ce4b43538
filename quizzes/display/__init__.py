"""How verdicts, tensors and questions look: as plain text, as HTML, and in a notebook with its buttons."""
