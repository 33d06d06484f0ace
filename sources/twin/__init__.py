"""The offline twin: a server on loopback that answers as the providers do, from recorded bytes."""
