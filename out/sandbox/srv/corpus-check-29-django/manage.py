print('a stand-in')
