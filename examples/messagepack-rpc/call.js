// Calls a Postroom service by MessagePack-RPC, with the package msgpack-rpc-lite:
//
//     npm install msgpack-rpc-lite
//     node call.js /run/user/1000/postroom/postroom.sock

const { Client } = require('msgpack-rpc-lite');

async function main(path) {
  // Bytes as Buffer, in both directions.
  const client = new Client({ path });

  // The result, and the id of its request. Arguments by name, as one map, or in the order of the fields.
  const [byName] = await client.request('echo.echo', { id: 7, data: Buffer.from('hello') });
  console.log('by name:', byName.id);
  const [inOrder] = await client.request('echo/1.echo', 8, Buffer.from('hello'));
  console.log('in order:', inOrder.id);

  // The error is a map, whose code is for programs and whose message is for people.
  await client.request('echo.fail', { code: 'tea', message: 'there is no tea' }).catch((error) => {
    console.log('error:', error.code, '-', error.message);
  });

  // Nobody answers a notification.
  await client.notify('echo.mirror', { nobody: 'listens' });
  console.log('notified');

  // Many calls at once: each is answered when it is done.
  const numbers = Array.from({ length: 1000 }, (_, number) => number);
  const replies = await Promise.all(numbers.map((number) => client.request('echo.mirror', number, 'pipelined')));
  console.log('pipelined:', replies.filter(([[number]], at) => number === at).length);
  client.close();
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
