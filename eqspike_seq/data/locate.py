"""x"""
def cache_dir():
    return None
