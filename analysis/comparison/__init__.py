"""Runs, or designs over seeds, against a baseline: what differs beyond the noise of images and of seeds."""
