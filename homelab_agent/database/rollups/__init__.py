"""What each series came to by minute, hour and day: kept longer than its rows, and under the same names everywhere."""
