"""The stores floor: where state lives. It knows bytes and the words of the engine, and nothing of who runs what."""
