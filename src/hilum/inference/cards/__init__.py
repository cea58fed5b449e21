"""Templates of MODEL_CARD.md: what all cards say, and what each task adds."""
