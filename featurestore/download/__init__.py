"""Downloads: fetched piece by piece, resumed, checked, unpacked safely."""
