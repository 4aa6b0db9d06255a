"""Everything that touches the outside: wires in, stores and providers out."""
