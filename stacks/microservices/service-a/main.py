from service import serve

serve({"/": lambda: "service a\n"})
