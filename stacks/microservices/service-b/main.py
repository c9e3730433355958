from service import serve

serve({"/": lambda: "service b\n"})
