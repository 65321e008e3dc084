-- Calls a Postroom service by MessagePack-RPC, with what Neovim brings along:
--
--     POSTROOM_SOCKET=/run/user/1000/postroom/postroom.sock nvim --headless -u NONE -c 'luafile call.lua'

local channel = vim.fn.sockconnect('pipe', os.getenv('POSTROOM_SOCKET'), { rpc = true })
local function say(...) io.stdout:write(table.concat({ ... }, ' '), '\n') end

-- Arguments by name, as one map, or in the order of the fields.
say('by name:', vim.rpcrequest(channel, 'echo.echo', { id = 7, data = 'hello' }).id)
say('in order:', vim.rpcrequest(channel, 'echo/1.echo', 8, 'hello').id)

-- An error of the service is an error here. Neovim knows errors that are texts, and has no words for those that are maps.
local ok = pcall(vim.rpcrequest, channel, 'echo.fail', { code = 'tea', message = 'there is no tea' })
say('failed:', tostring(not ok))

-- Nobody answers a notification.
vim.rpcnotify(channel, 'echo.mirror', { nobody = 'listens' })
say('notified')

-- A thousand notifications, and then a request, are sent without waiting for anything; Neovim's requests wait.
for number = 1, 1000 do
  vim.rpcnotify(channel, 'echo.mirror', number, 'pipelined')
end
local done = 0
for number = 1, 1000 do
  if vim.rpcrequest(channel, 'echo.mirror', number, 'in turn')[1] == number then done = done + 1 end
end
say('in turn:', done)
vim.fn.chanclose(channel)
vim.cmd('quitall!')
