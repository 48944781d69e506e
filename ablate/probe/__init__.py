"""What a run costs, measured alone on the device: `prober` measures one, `study` all variants, `cost` is the answer."""
