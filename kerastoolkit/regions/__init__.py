"""What detectors of two stages do with boxes, in keras.ops: anchors, coding, matching, drawing, suppression and alignment."""
