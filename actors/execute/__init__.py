"""What a worker does with one job: resolve its inputs, run its body, put its outcome into words."""
