"""What a training knows about its machine: processors, memory, Ctrl-C."""
