"""One run or one pre-training carried out, from its config to its evaluation."""
