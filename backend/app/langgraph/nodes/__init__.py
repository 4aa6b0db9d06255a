"""The nodes of the chat graph, a file each."""
