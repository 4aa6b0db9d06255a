"""The AI SDK wire: the UI message stream of the npm package `ai`, as a translation of run events."""
