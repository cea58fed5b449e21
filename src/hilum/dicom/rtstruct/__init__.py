"""RT structure sets: contours to label maps and back."""
