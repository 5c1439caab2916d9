"""Chat data of recorded battles: chosen, filtered, written, validated and read."""
