#!/bin/sh
trap 'exit 0' TERM INT
sleep 2147483647 &
wait
