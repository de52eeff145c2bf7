"""Files from the internet: fetched piece by piece, resumed, checked, unpacked safely."""
