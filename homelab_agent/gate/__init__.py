"""The capability `gate`: a door to the internet, and one inside the tailnet, that shut themselves."""
