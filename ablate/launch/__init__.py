"""Running the runs of a study: what is not done, on whatever the machine has, until all of it is answered."""
