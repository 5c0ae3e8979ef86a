"""From the marker log to files of MultiSlot text, a pass at a time."""
