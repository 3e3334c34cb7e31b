"""Write a data set in Broden's layout from labeled images of any source."""
