"""An axis and a backbone of one's own."""
